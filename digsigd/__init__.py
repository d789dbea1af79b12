"""digsigd signs NXP i.MX boot and kernel images with NXP's Code Signing Tool, and proves every signature."""
