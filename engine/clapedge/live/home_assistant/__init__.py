"""Home Assistant: the sources of a post as devices there, found through the broker of MQTT that both know."""
