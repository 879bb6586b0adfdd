"""wss: the server shows a certificate, the client checks it."""

import ssl

from wse_sync import AuthRequest, WseClient, WseServer


def identify(auth: AuthRequest) -> None:
    auth.accept(auth.identity, f"hello over {auth.environ['wsgi.url_scheme']}")


for_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
for_server.minimum_version = ssl.TLSVersion.TLSv1_2  # before Python 3.10 it would be less
for_server.load_cert_chain("server.pem")  # the certificate and its key

# Only for a certificate of your own authority; otherwise leave ssl_context out.
for_client = ssl.create_default_context(cafile="ca.pem")
for_client.minimum_version = ssl.TLSVersion.TLSv1_2

with WseServer(identify, port=0, ssl_context=for_server) as server:
    print(server.url.partition(":")[0])
    with WseClient(f"wss://localhost:{server.port}/", ssl_context=for_client) as client:
        print(client.connect("ann"))
