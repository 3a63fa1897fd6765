"""Generated from proto_xds/ by `make generate`: do not edit."""
