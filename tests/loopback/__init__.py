"""An archive on this machine's loopback: real HTTP, real answers, and faults on command."""
