"""What a provider's or a mail server's "no" means, and whose turn it is: one table, and how to find a row in it."""
