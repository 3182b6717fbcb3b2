"""The log on Apache Kafka, or anything that speaks its protocol, through aiokafka."""

from streamlens.kafka.connection import KafkaSecurity
from streamlens.kafka.log import KafkaLog

__all__ = ["KafkaLog", "KafkaSecurity"]
