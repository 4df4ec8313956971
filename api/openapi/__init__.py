"""/openapi.json and /docs, from the same classes that requests and answers are made of."""
