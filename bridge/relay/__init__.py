"""Sockets: accept, log in, dial upstream, pass bytes."""
