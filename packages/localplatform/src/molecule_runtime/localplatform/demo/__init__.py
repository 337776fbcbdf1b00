"""`molecule-local demo`: a team of agents at work on the embedded platform, with no account and no key."""
