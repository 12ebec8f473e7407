"""The operating system: directories, permissions, signals; all platform code that is not the tray's."""
