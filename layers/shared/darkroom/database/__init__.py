"""What every store of records shares: an SQL engine with migrations, a DynamoDB table, conditions, and a fence."""
