"""Pictures of a user as an archive in CIFAR-10's format."""
