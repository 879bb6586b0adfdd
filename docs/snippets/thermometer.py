"""A device that says how warm it is, every minute."""

from wse_sync import WseClient

client = WseClient("ws://hub.example:8765/", reconnect=True)


def measure() -> float:
    return 21.5


def main() -> None:
    client.connect("kitchen")
    while not client.wait(60.0):
        client.send("temperature", measure())


if __name__ == "__main__":
    with client:
        main()
