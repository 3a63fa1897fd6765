"""What operators see: logs, metrics, and the HTTP port that shows them.

Nothing here decides anything, and nothing here ever holds a message's text or a token.
"""
