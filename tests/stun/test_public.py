"""The public names of the room."""

from __future__ import annotations

from natwalk import stun

FUNCTIONS_AND_CLASSES = {
    "AddressErrorCode",
    "Algorithm",
    "Attribute",
    "AttributeSpec",
    "Behaviour",
    "BehaviourDiscovery",
    "BindingClient",
    "BindingEvent",
    "BindingFailed",
    "BindingServer",
    "ChangeRequest",
    "Dependence",
    "DiscoveryEvent",
    "EcnCheck",
    "ErrorCode",
    "IcmpError",
    "InvalidServerUri",
    "MappedAddress",
    "Message",
    "MessageClass",
    "Method",
    "NatBehaviour",
    "PasswordAlgorithm",
    "Pending",
    "PreparationError",
    "Scheme",
    "SecurityFeature",
    "ServerUri",
    "ShortTerm",
    "Signer",
    "Step",
    "Transactions",
    "TransmitCounter",
    "check_algorithm",
    "check_integrity",
    "choose_algorithm",
    "decode",
    "decode_readable",
    "encode",
    "error",
    "indication",
    "is_stun",
    "long_term_key",
    "nonce_features",
    "nonce_prefix",
    "opaque_string",
    "parse_uri",
    "request",
    "send_offsets",
    "short_term_key",
    "success",
    "timeout_offset",
    "userhash",
}


def test_the_public_names_are_these_and_the_attributes() -> None:
    attributes = {spec.name.replace("-", "_") for spec in stun.ATTRIBUTES.values()}
    assert set(stun.__all__) == attributes | FUNCTIONS_AND_CLASSES | {"ATTRIBUTES"}
    assert all(hasattr(stun, name) for name in stun.__all__)
