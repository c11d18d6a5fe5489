"""The edge: messages of `aisle.v1` become requests and events, slates become messages.

Together with the server and the client, the only part of `online` that knows gRPC and the
contract. Users' ids end here: what goes further in are pseudonyms.
"""
