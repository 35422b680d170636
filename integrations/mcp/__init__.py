"""A tool server of the Model Context Protocol: assistants rerank passages and files. Requires ``modernrank[mcp]``.

server.py   the two tools, what they take and answer
files.py    finds and reads the files that an assistant names, within the folders that the user allows
"""

from .server import McpOptions, create_server, serve_stdio

__all__ = ["McpOptions", "create_server", "serve_stdio"]
