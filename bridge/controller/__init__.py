"""What people ask of the bridge in this process: the control contract, over accounts, tokens and mail servers."""
