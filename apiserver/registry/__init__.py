"""The rules of creating, changing and deleting an object, over the store."""
