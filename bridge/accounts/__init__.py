"""Which account a login means, and whether its local password is right."""
