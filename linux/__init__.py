"""The Linux that nodes are made of: namespaces and mounts by system call, links and routes by ``ip -batch``, packet rules by nft.

Python 3.11 has neither ``os.unshare`` nor ``os.setns``, so the calls go through libc by ctypes. Nothing here keeps state.
"""
