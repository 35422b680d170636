"""How a call on texts is carried out: its arguments are checked, its windows scored by a thread or in an event loop."""
