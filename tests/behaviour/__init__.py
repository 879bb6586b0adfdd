"""The promises of the library, one test or more for each, against the public API only."""
