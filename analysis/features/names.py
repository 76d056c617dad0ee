"""Which features a profile yields, known without an image and without loading PyRadiomics."""

from mirv.config.errors import ProfileError
from mirv.config.feature_names import names_of
from mirv.config.profiles import ExtractionProfile


def feature_names(profile: ExtractionProfile) -> tuple[str, ...]:
    """Name every feature of a profile, in PyRadiomics' order.

    Raises
    ------
    ProfileError
        The profile names a feature class, feature or image type that is not supported, or the
        count differs from its ``n_features``, or a selected feature is not among them.
    """
    try:
        names = names_of(profile.image_types, profile.feature_classes, profile.settings)
    except ProfileError as error:
        raise ProfileError(f"profile {profile.name}: {error}") from error
    if len(names) != profile.n_features:
        raise ProfileError(
            f"profile {profile.name}: found {len(names)} features, wanted n_features = "
            f"{profile.n_features}"
        )
    if unknown := set(profile.selected) - set(names):
        raise ProfileError(
            f"profile {profile.name}: selected features it does not yield: "
            f"{', '.join(sorted(unknown))}"
        )
    return names
