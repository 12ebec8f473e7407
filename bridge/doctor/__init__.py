"""What can be wrong around a bridge, looked at one by one: ports, keys, network, clock, accounts."""
