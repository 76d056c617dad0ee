"""Who the node is: in what it writes, to the peers it speaks with, and to itself.

Whether an object is the node's own output, which is never input again, is decided by its maker.
"""

from collections.abc import Iterable

from mirv.dicom_io.standard.uids import derive_uid

MANUFACTURER = "mirv-node"
MODEL_NAME = "mirv-node"
IMPLEMENTATION_CLASS_UID = derive_uid("mirv-node", "implementation class")
# On the network, and in files of what came by it; an output names the version that made it.
IMPLEMENTATION_VERSION_NAME = "MIRV_NODE"


def made_here(makers: Iterable[object]) -> bool:
    """Whether one of the makers of an object is this node.

    Parameters
    ----------
    makers : iterable
        Manufacturer of its equipment and of each that contributed; what is absent is None or "".
    """
    return any(maker == MANUFACTURER for maker in makers)
