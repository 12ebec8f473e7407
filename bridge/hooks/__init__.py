"""Notices for scripts: a program of the administrator's, or a URL, is told when somebody must act."""
