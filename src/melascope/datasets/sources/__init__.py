"""One module per dataset family: its published layout, turned into cases."""
