"""One thin module a DVC stage: read params and deps, call the library, write outs."""
