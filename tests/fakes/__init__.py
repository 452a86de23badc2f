"""Stand-ins at the seams: each is held to the contract of what it stands for."""
