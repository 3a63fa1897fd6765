"""Presence: who can be reached now, from what devices report and what users say of themselves.

Rules, ports and their adapters; what is kept is what nobody can report again: a user's status.
Whose presence may be seen by whom is `account.audiences`'; a channel's members are chat's.
"""
