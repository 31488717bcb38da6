#!/usr/bin/python3 -I
"""The kiwari-ci host program: deploys images on this server when a workflow or a person asks for it.

This is a stand-in: the program is written on another branch.
"""
