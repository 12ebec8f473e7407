"""Notices for scripts: the administrator's program, or a URL, is told when somebody must act."""
