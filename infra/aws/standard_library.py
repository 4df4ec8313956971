"""What the import of functions.api is compared with: importing this reads byte code of the same kind, and always as
much of it (some 260 modules of Python's own), so that the ratio of the two is the same on slow and fast machines.
"""

# ruff: noqa: F401
import argparse
import asyncio
import concurrent.futures.process
import ctypes
import decimal
import doctest
import email.mime.text
import http.client
import http.server
import logging.config
import multiprocessing.pool
import pdb
import sqlite3
import ssl
import statistics
import tarfile
import unittest.mock
import urllib.request
import xml.dom.minidom
import zipfile
