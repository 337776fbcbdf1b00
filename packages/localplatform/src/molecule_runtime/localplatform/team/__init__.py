"""A team from one file: its members as workspaces of the platform, and as supervised processes on this machine.

`seed` is the format of the file, `reading` reads and checks it, `members` is what comes out. `seats` gives each member its workspace
and its folder, `processes` and `guard` run one process, `supervisor` keeps them all running, and `staffing` puts these together for
a platform that runs. The demo seats and runs its team the same way.
"""
