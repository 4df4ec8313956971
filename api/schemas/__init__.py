"""What requests and answers are made of; /openapi.json shows these very classes."""
