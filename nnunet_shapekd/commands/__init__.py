"""What a user types: ``shapekd`` and its subcommands, a file each. Imports everything, and nothing imports it."""
