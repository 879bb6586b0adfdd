"""What both ends of a conversation do: state and data, without sockets, threads or clocks."""
