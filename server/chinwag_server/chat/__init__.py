"""Chat: channels, their logs, members, marks, and the delivery to devices.

Rules live here and speak to ports (`store.ChatStore`, `directory.Directory`);
adapters of the store live in `chat.sqlite` and `chat.memory`. Nothing here may
import grpc but `servicer` and `connect_servicer`, and nothing a database driver
but the adapters. The generated messages are used as plain values.
"""
