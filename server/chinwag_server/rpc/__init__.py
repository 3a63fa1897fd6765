"""How calls reach a servicer: registration, middleware, errors, the gRPC server adapters.

Knows nothing of chat or accounts. A servicer is registered by its generated
`add_...Servicer_to_server` and does not know what serves it; what every call goes through
(deadline, authentication, rate limits, parsing, validation, metrics, errors) is in
`middleware`, once.
"""
