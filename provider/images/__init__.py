"""Images from registries: named, allowed, pulled, kept, and removed again."""
