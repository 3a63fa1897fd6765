"""Generated from proto_etcd/ by `make generate`: do not edit."""
