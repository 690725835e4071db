// The scan of rank_layers, for units that are compiled for any processor of the family, as this one is: they share its types.
#include <klens/rank/local/rank_locally.hpp>
#include <klens/rank/scan/scan.hpp>
