"""What is checked and filled in between authorisation and the store; one module a rule."""
