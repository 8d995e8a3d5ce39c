"""A mail server for tests: aiosmtpd, with answers that a test plans.

Reads lines of JSON: {"step": "RCPT" or "DATA", "answer": TEXT}; the answer `close` closes the connection. Writes lines of JSON: the port,
an acknowledgement of each planned answer, and each mail. Ends with its standard input.
"""

import asyncio
import collections
import email
import email.policy
import json
import ssl
import sys
import threading

from aiosmtpd.smtp import SMTP, AuthResult

settings = json.loads(sys.argv[1])
planned = collections.defaultdict(collections.deque)


def say(value):
    print(json.dumps(value), flush=True)


def read_plans(loop):
    for line in sys.stdin:
        plan = json.loads(line)
        planned[plan["step"]].append(plan["answer"])
        say({"planned": True})
    loop.call_soon_threadsafe(loop.stop)


class Handler:
    def answer(self, step, server):
        if not planned[step]:
            return None
        answer = planned[step].popleft()
        if answer == "close":
            server.transport.abort()
        return answer

    async def handle_RCPT(self, server, session, envelope, address, options):
        answer = self.answer("RCPT", server)
        if answer:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        answer = self.answer("DATA", server)
        login = session.auth_data
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        say({
            "mail": {
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "text": envelope.content.decode("ascii"),
                "headers": {name.lower(): str(value) for name, value in mail.items()},
                "body": mail.get_content(),
                "user": login.login.decode() if login else None,
                "tls": server.transport.get_extra_info("ssl_object") is not None,
                "answer": answer,
            }
        })
        return answer or "250 accepted"


def authenticate(server, session, envelope, mechanism, login):
    is_known = [login.login.decode(), login.password.decode()] == settings["login"]
    return AuthResult(success=is_known, handled=False, auth_data=login if is_known else None)


def context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings["certificate"])
    return context


async def main():
    loop = asyncio.get_running_loop()
    arguments = {"loop": loop, "hostname": "mail.example.org"}
    if settings["tls"] == "starttls":
        arguments |= {"tls_context": context(), "require_starttls": True}
    if settings["login"]:
        # It knows of no TLS but that of STARTTLS.
        is_starttls = settings["tls"] == "starttls"
        arguments |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": is_starttls}
    handler = Handler()
    server = await loop.create_server(
        lambda: SMTP(handler, **arguments),
        "127.0.0.1",
        0,
        ssl=context() if settings["tls"] == "implicit" else None,
    )
    say({"port": server.sockets[0].getsockname()[1]})
    threading.Thread(target=read_plans, args=(loop,), daemon=True).start()


loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.run_until_complete(main())
loop.run_forever()
