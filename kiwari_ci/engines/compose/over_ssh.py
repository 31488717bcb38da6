#!/usr/bin/python3 -I
"""The kiwari-ci SSH client: asks the host program of a server to deploy, and reports what it answers.

This is a stand-in: the program is written on another branch.
"""
