"""Custom resources: from CustomResourceDefinitions to kinds that are served like the built-in ones."""
