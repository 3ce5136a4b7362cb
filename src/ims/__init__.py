"""Image Management Service: keeps virtual-machine images and lets tenants share them."""
