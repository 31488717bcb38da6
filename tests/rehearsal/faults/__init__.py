"""The faults, by what they break: importing this registers them all."""

from tests.rehearsal.faults import host, images, order, outside, promotion, services

ROOMS = (images, order, promotion, host, services, outside)
