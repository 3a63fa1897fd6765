"""Accounts: people, sessions and their tokens, friends, blocks, privacy, API keys, bans.

Rules live here and speak to the port `store.AccountStore`; its adapters are `account.sqlite` and
`account.memory`. What belongs to a user is one partition, changed by one commit at a time
(`users`); what has to happen to another user follows as a chore that is noted in the same
commit (`chores`). Nothing here imports grpc but `servicer`, and nothing a database driver but the
adapters.
"""
