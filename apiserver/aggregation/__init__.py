"""API groups that other servers serve, behind this one: APIServices, whether they answer, and requests passed on to them."""
