"""Clocks of hosts, solved jointly from all synchronous calls between them."""
