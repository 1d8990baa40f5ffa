#include "generation.hpp"
