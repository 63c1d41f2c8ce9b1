"""A replica as it is often built: a Python consumer in front of clamd.

usage: consumer.py BROKERS GROUP INPUT OUTPUT SOCKET
"""

import json
import socket
import struct
import sys

from kafka import KafkaConsumer, KafkaProducer


def scan(path, data):
    """What clamd says of some bytes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as clamd:
        clamd.connect(path)
        clamd.sendall(b"zINSTREAM\0" + struct.pack("!I", len(data)) + data + struct.pack("!I", 0))
        answer = b""
        while not answer.endswith(b"\0"):
            part = clamd.recv(4096)
            if not part:
                break
            answer += part
    return answer.rstrip(b"\0").decode(errors="replace").removeprefix("stream: ")


def main():
    brokers, group, source, results, clamd = sys.argv[1:]
    consumer = KafkaConsumer(source, bootstrap_servers=brokers, group_id=group, auto_offset_reset="earliest")
    producer = KafkaProducer(bootstrap_servers=brokers, linger_ms=5)
    for record in consumer:
        answer = scan(clamd, record.value or b"")
        result = {"message": (record.value or b"").decode(errors="replace"), "clamav_result": answer}
        producer.send(results, json.dumps(result).encode())


main()
