"""What an administrator wants to know, from what is read and what the core decides."""
