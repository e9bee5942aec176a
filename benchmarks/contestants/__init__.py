"""Who is timed: a file a contestant, each a process that trains what it is told and says how long it took."""
